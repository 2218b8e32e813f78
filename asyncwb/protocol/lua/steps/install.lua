-- install: a new epoch, if server and meta are still what the client has read.
-- ARGV  2 identity of the server as read  3 meta's identity as read  4 meta's epoch as read  5 new epoch
--       6 layout  7 partitions  8 codec
-- Reply 1, or 0 if something changed
-- @include keys
-- @include allow_at_maxmemory
-- @include identity
local meta = redis.call('HMGET', META, 'identity', 'epoch')
if identity() ~= ARGV[2] or (meta[1] or '') ~= ARGV[3] or (meta[2] or '') ~= ARGV[4] then return 0 end
-- Also at maxmemory: a full buffer that has restarted has to be readable.
allow_at_maxmemory()
redis.call('HSET', META, 'identity', ARGV[2], 'epoch', ARGV[5], 'seq', 0, 'layout', ARGV[6], 'partitions', ARGV[7],
  'codec', ARGV[8])
return 1
