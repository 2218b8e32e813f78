-- hasten: delayed records are due at once, except those that have failed, because their back-off protects the backend.
-- ARGV  2 how many to skip  3 most records to look at
-- Reply how many delayed records it looked at, and how many of them it left
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include clock
-- @include wake
local SKIP, MOST = ARGV[2], ARGV[3]

allow_at_maxmemory()
local now = clock()
local later = redis.call('ZRANGEBYSCORE', DIRTY, '(' .. now, '+inf', 'LIMIT', SKIP, MOST)
local failed = redis.call('HLEN', RETRY) > 0 and read_all('HMGET', RETRY, later) or {}
local due = {}
for i = 1, #later do
  if not failed[i] then
    due[#due + 1] = now
    due[#due + 1] = later[i]
  end
end
if #due > 0 then
  write_all('ZADD', DIRTY, due)
  wake()
end
return {#later, #later - #due / 2}
