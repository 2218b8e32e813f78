-- pending: how much isn't saved, counted in one step: a record on its way from one set to another is in one of them.
-- Reply dirty, leased, dead, then the epoch and the sequence number of the newest write, and the time (ms)
local meta = redis.call('HMGET', META, 'epoch', 'seq')
return {
  redis.call('ZCARD', DIRTY), redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD), whole(meta[1]) or 0,
  whole(meta[2]) or 0, wall(),
}
