-- @include keys
-- @include chunks
-- @include try
-- Marks records that are changed while they are leased: the save under way doesn't cover what they have now.
local function mark(keys)
  if #keys == 0 then return end
  if not try('SCARD', CHANGED) then
    -- Another program has replaced the set. Which records were marked is unknown, so all of them are.
    redis.call('DEL', CHANGED)
    write_all('SADD', CHANGED, redis.call('ZRANGE', LEASE, 0, -1))
  end
  write_all('SADD', CHANGED, keys)
end

-- For each of these keys 1 if it is marked, else 0; nil if none is. All are if another program has replaced the set.
local function marks_of(keys)
  local count = try('SCARD', CHANGED)
  if count == 0 then return nil end
  if count then return read_all('SMISMEMBER', CHANGED, keys) end
  local all = {}
  for i = 1, #keys do all[i] = 1 end
  return all
end

-- Takes away the marks of records whose leases end.
local function unmark(keys)
  if #keys > 0 and (try('SCARD', CHANGED) or 0) > 0 then write_all('SREM', CHANGED, keys) end
end
