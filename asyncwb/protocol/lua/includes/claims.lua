-- @include keys
-- @include clock
-- @include try
-- The deadline of a claim (ms), as it has it in `claims` and its leases have it in `lease`; nil if the claim is
-- unknown.
local function deadline_of(claim)
  return tonumber(try('ZSCORE', CLAIMS, claim) or nil)
end

-- When a lease ends that begins now (ms): a time that neither a lease nor a claim that is remembered has. So a claim's
-- leases are told from all others by it, even if they end early and another claim begins in the same millisecond.
local function new_deadline(ms)
  local deadline = math.ceil(noted_clock()) + ms
  while redis.call('ZCOUNT', LEASE, deadline, deadline) > 0 or (try('ZCOUNT', CLAIMS, deadline, deadline) or 0) > 0 do
    deadline = deadline + 1
  end
  return deadline
end

-- Remembers a claim, and forgets those whose leases ended so many milliseconds ago.
local function remember(claim, deadline, ms)
  if not try('ZREMRANGEBYSCORE', CLAIMS, '-inf', '(' .. string.format('%.0f', clock() - ms)) then
    redis.call('DEL', CLAIMS)  -- another program's
  end
  redis.call('ZADD', CLAIMS, deadline, claim)
  redis.call('PEXPIRE', CLAIMS, 2 * LONGEST)  -- in case there is never another claim
end
