-- unsaved: the keys that are dirty or leased now, with the versions they have now.
-- ARGV  2 'all', 'dirty' or 'lease'  3 offset, from the latest  4 most
-- Reply key, version, key, version, …; nil if all are more than the most
-- @include keys
-- @include version_of
local keys = {}
if ARGV[2] == 'all' then
  -- In one step: a key moves from one set to the other and back, and is in one of them at any time.
  if redis.call('ZCARD', DIRTY) + redis.call('ZCARD', LEASE) > tonumber(ARGV[4]) then return false end
  for _, set in ipairs({DIRTY, LEASE}) do
    for _, key in ipairs(redis.call('ZRANGE', set, 0, -1)) do keys[#keys + 1] = key end
  end
else
  keys = redis.call('ZRANGE', ARGV[2] == 'lease' and LEASE or DIRTY, -ARGV[3] - ARGV[4], -ARGV[3] - 1)
end
local reply = {}
for i = 1, #keys do
  local version = version_of(keys[i])
  if version ~= '' then
    reply[#reply + 1] = keys[i]
    reply[#reply + 1] = version
  end
end
return reply
