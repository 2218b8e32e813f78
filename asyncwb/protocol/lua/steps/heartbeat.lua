-- heartbeat: a process reports that it lives; processes that have been silent for long are forgotten.
-- KEYS  11 workers
-- ARGV  2 its id  3 what it says of itself ('' to leave)  4 ms after which a silent one is forgotten
-- Reply how many there are
-- @include allow_at_maxmemory
-- @include try
-- @include wall
local WORKERS = KEYS[11]
local ID, TEXT, SILENT_MS = ARGV[2], ARGV[3], tonumber(ARGV[4])

allow_at_maxmemory()
local now = wall()
local all = try('HGETALL', WORKERS)
if not all then
  redis.call('DEL', WORKERS)
  all = {}
end
for i = 1, #all, 2 do
  local said = #all[i + 1] >= 8 and struct.unpack('>I8', all[i + 1]) or 0
  -- A time in the future was noted before the clock was set back, or by another program. A process that lives reports
  -- again.
  if math.abs(now - said) > SILENT_MS then redis.call('HDEL', WORKERS, all[i]) end
end
if TEXT == '' then
  redis.call('HDEL', WORKERS, ID)
else
  redis.call('HSET', WORKERS, ID, struct.pack('>I8', now) .. TEXT)
end
-- When no process reports any more, the whole hash expires.
redis.call('PEXPIRE', WORKERS, SILENT_MS)
return redis.call('HLEN', WORKERS)
