-- drop: removes dead letters with their records, if they still have the versions that the caller has seen. It notes the
-- newest version that goes, since updates that come later are applied to a value without it.
-- ARGV  2… key and version for each
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include newer
-- @include removal
-- @include try
-- @include version_of
-- @include whole
allow_at_maxmemory()
local meta = try('HMGET', META, 'epoch', 'dropped') or {}
local epoch, newest = whole(meta[1]) or 0, meta[2]
if not newest or #newest ~= 8 then newest = string.rep('\0', 8) end
local dropped = {}
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local entry = redis.call('HGET', DEAD, key)
  -- A shorter entry is another program's, and has no version.
  if entry and (string.sub(entry, 1, 8) == version or #entry < 29) then
    dropped[#dropped + 1] = key
    local present = version_of(key)
    local known = #present == 8 and struct.unpack('>I4', present) <= epoch  -- else it is another program's
    if known and newer(present, newest) then newest = present end
  end
end
if #dropped > 0 then try('HSET', META, 'dropped', newest) end
local freed = 0
for i = 1, #dropped do freed = freed + remove(dropped[i]) end
if freed > 0 then count_bytes(-freed) end
return #dropped
