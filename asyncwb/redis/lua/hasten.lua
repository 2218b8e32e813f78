-- hasten: delayed records are due at once.
-- ARGV  2 most records
-- Reply how many
allow_at_maxmemory()
local now = clock()
local later = redis.call('ZRANGEBYSCORE', DIRTY, '(' .. now, '+inf', 'LIMIT', 0, ARGV[2])
local due = {}
for i = 1, #later do
  due[#due + 1] = now
  due[#due + 1] = later[i]
end
if #due > 0 then
  write_all('ZADD', DIRTY, due)
  wake()
end
return #later
