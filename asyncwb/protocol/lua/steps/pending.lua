-- pending: how much isn't saved, counted in one step, so that a record that moves between sets is counted once.
-- Reply dirty, leased, dead, the epoch and the sequence number of the newest write, and when a record died last (ms; 0)
-- @include keys
-- @include clock
-- @include whole
local meta = redis.call('HMGET', META, 'epoch', 'seq', 'died')
return {
  redis.call('ZCARD', DIRTY), redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD), whole(meta[1]) or 0,
  whole(meta[2]) or 0, noted_time(meta[3]),
}
