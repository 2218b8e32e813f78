-- enter: what a namespace was made with. If its key is missing, that is decided here.
-- KEYS  1 the namespace's key
-- ARGV  1 layout  2 partitions  3 codec: what it is made with
-- Reply layout, partitions and codec as the key has them; '' for a field that another program has removed
local NAMESPACE = KEYS[1]
local LAYOUT, PARTITIONS, CODEC = ARGV[1], ARGV[2], ARGV[3]

local found = redis.call('HMGET', NAMESPACE, 'layout', 'partitions', 'codec')
if not (found[1] or found[2] or found[3]) then
  -- Also at maxmemory, as in allow_at_maxmemory: a full buffer has to be readable. '' is no field of it.
  redis.call('HDEL', NAMESPACE, '')
  redis.call('HSET', NAMESPACE, 'layout', LAYOUT, 'partitions', PARTITIONS, 'codec', CODEC)
  return {LAYOUT, PARTITIONS, CODEC}
end
return {found[1] or '', found[2] or '', found[3] or ''}
