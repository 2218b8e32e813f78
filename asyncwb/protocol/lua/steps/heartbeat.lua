-- heartbeat: a process says that it is there; those that have been silent for long are forgotten.
-- KEYS  8 workers
-- ARGV  2 its id  3 what it says of itself ('' to leave)  4 ms after which a silent one is forgotten
-- Reply how many there are
-- @include allow_at_maxmemory
-- @include try
-- @include wall
allow_at_maxmemory()
local now = wall()
local all = try('HGETALL', KEYS[8])
if not all then
  redis.call('DEL', KEYS[8])
  all = {}
end
for i = 1, #all, 2 do
  local said = #all[i + 1] >= 8 and struct.unpack('>I8', all[i + 1]) or 0
  -- One from ahead was written before the clock was set back, or by another program. Who lives says so again.
  if math.abs(now - said) > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[8], all[i]) end
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[8], ARGV[2])
else
  redis.call('HSET', KEYS[8], ARGV[2], struct.pack('>I8', now) .. ARGV[3])
end
-- If nobody says anything any more, all of them go.
redis.call('PEXPIRE', KEYS[8], ARGV[4])
return redis.call('HLEN', KEYS[8])
