-- stats: what an operator asks first.
-- Reply dirty, leased, dead, bytes (an estimate), age of the oldest unsaved write (ms; -1: none), epoch
local now = clock()
local oldest = now + 1
-- The earliest due are the oldest, but for records in back-off: looking at some of each set is near enough.
for _, set in ipairs({DIRTY, LEASE}) do
  for _, key in ipairs(redis.call('ZRANGE', set, 0, 31)) do
    local since = redis.call('GETRANGE', PREFIX .. key, 8, 15)
    if #since == 8 then oldest = math.min(oldest, (struct.unpack('>I8', since))) end
  end
end
local meta = redis.call('HMGET', META, 'bytes', 'epoch')
return {
  redis.call('ZCARD', DIRTY), redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD),
  math.max(0, tonumber(meta[1] or 0)), now - oldest, tonumber(meta[2] or 0),
}
