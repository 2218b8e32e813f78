-- @include keys
-- @include try
-- The byte estimate; one that was overwritten begins anew, until `audit` counts.
local function count_bytes(change)
  if not try('HINCRBY', META, 'bytes', change) then redis.call('HSET', META, 'bytes', math.max(0, change)) end
end
