-- unsaved: the keys that are dirty or leased now, with the versions they have now.
-- ARGV  2 'all', 'dirty' or 'lease'  3 offset, from the latest  4 most
-- Reply key, version, key, version, …; nil if all are more than the most
-- @include keys
-- @include version_of
local SET, OFFSET, MOST = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local keys = {}
if SET == 'all' then
  -- In one step: a key moves from one set to the other and back, and is in one of them at any time.
  if redis.call('ZCARD', DIRTY) + redis.call('ZCARD', LEASE) > MOST then return false end
  for _, set in ipairs({DIRTY, LEASE}) do
    for _, key in ipairs(redis.call('ZRANGE', set, 0, -1)) do keys[#keys + 1] = key end
  end
else
  keys = redis.call('ZRANGE', SET == 'lease' and LEASE or DIRTY, -OFFSET - MOST, -OFFSET - 1)
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
