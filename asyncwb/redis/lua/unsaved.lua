-- unsaved: a page of the keys that are dirty or leased now, with the versions they have now.
-- ARGV  2 'dirty' or 'lease'  3 offset  4 most
-- Reply key, version, key, version, …
local keys = redis.call('ZRANGE', ARGV[2] == 'lease' and LEASE or DIRTY, ARGV[3], ARGV[3] + ARGV[4] - 1)
local reply = {}
for i = 1, #keys do
  local version = redis.call('GETRANGE', PREFIX .. keys[i], 0, 7)
  if version ~= '' then
    reply[#reply + 1] = keys[i]
    reply[#reply + 1] = version
  end
end
return reply
