-- extend: renews the leases that a claim still holds, while its save runs.
-- KEYS  8 claim
-- ARGV  2 lease (ms)  3 ms to keep the claim
-- Reply how many leases it still held
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
local CLAIM = KEYS[8]
local LEASE_MS, KEPT_MS = tonumber(ARGV[2]), ARGV[3]

allow_at_maxmemory()
local held_until, keys, versions = read_claim(CLAIM)
if not held_until then return 0 end
local deadline = new_deadline(LEASE_MS)
local scores = read_all('ZMSCORE', LEASE, keys)
local lease = {}
for i = 1, #keys do
  if scores[i] and tonumber(scores[i]) == held_until then
    lease[#lease + 1] = deadline
    lease[#lease + 1] = keys[i]
  end
end
if #lease > 0 then
  write_all('ZADD', LEASE, lease)
  redis.call('SET', CLAIM, cmsgpack.pack({deadline, keys, versions}), 'PX', KEPT_MS)
end
return #lease / 2
