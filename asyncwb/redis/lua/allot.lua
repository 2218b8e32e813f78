-- allot: versions for writes that go to the backend directly, because the buffer is full. Also at maxmemory.
-- ARGV  2 epoch  3 how many
-- Reply the sequence number before the first, or 'EPOCH'
local meta = redis.call('HMGET', META, 'identity', 'epoch', 'seq')
local used = whole(meta[3])
if not meta[1] or meta[1] ~= identity() or meta[2] ~= ARGV[2] or not used or used < 0
  or used + tonumber(ARGV[3]) > 4294967295 then
  return 'EPOCH'
end
allow_at_maxmemory()
return redis.call('HINCRBY', META, 'seq', ARGV[3]) - ARGV[3]
