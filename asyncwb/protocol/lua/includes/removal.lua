-- @include keys
-- @include try

-- Forgets all failures of a record: its dead letter, its attempts, and leases that expired.
local function forget_failures(key)
  redis.call('HDEL', DEAD, key)
  redis.call('HDEL', RETRY, key)
  try('HDEL', EXPIRED, key)
end

-- Removes a record and all that is known of it; returns how many bytes it had.
local function remove(key)
  local name = PREFIX .. key
  local bytes = try('STRLEN', name) or 0
  redis.call('DEL', name)
  redis.call('ZREM', DIRTY, key)
  redis.call('ZREM', LEASE, key)
  try('SREM', CHANGED, key)
  try('HDEL', TOKENS, key)
  forget_failures(key)
  return bytes
end
