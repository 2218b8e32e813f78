-- The names of the keys, as every script gets them.
-- KEYS  1 meta  2 dirty  3 lease  4 expired  5 dead  6 wake  7 retry  8 changed  9 claims  10 tokens  (11 writer)
-- ARGV  1 prefix of record keys; the rest belongs to the script
local META, DIRTY, LEASE, EXPIRED, DEAD, WAKE, RETRY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local CHANGED, CLAIMS, TOKENS = KEYS[8], KEYS[9], KEYS[10]
local PREFIX = ARGV[1]
