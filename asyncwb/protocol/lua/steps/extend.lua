-- extend: renews the leases that a claim still holds, while its save runs.
-- ARGV  2 the claim's id  3 lease (ms)  4 ms to remember the claim after its leases have ended
-- Reply how many leases it still held
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
local CLAIM, LEASE_MS, REMEMBERED_MS = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

allow_at_maxmemory()
local held_until = deadline_of(CLAIM)
if not held_until then return 0 end
local held = redis.call('ZRANGEBYSCORE', LEASE, held_until, held_until)
if #held > 0 then
  local deadline, lease = new_deadline(LEASE_MS), {}
  for i = 1, #held do
    lease[2 * i - 1] = deadline
    lease[2 * i] = held[i]
  end
  write_all('ZADD', LEASE, lease)
  remember(CLAIM, deadline, REMEMBERED_MS)
end
return #held
