-- @include keys
-- @include try
-- Changes the estimate of bytes. If another program has overwritten it, it starts again from 0, and `audit` corrects
-- it.
local function count_bytes(change)
  if not try('HINCRBY', META, 'bytes', change) then redis.call('HSET', META, 'bytes', math.max(0, change)) end
end
