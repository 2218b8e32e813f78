-- stats: what an operator asks first.
-- Reply dirty, leased, dead, bytes (an estimate), age of the oldest unsaved write (ms; -1: none), epoch
-- @include keys
-- @include clock
-- @include oldest_since
-- @include whole
local now = times()
local meta = redis.call('HMGET', META, 'bytes', 'epoch')
return {
  redis.call('ZCARD', DIRTY), redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD),
  math.max(0, whole(meta[1]) or 0), now - oldest_since(now, 32, false), whole(meta[2]) or 0,
}
