-- @include keys
-- @include newer
-- @include try
-- @include whole
-- Notes the newest of the versions that operators gave up: updates that come later are applied to a value without them.
local function note_dropped(versions)
  local meta = try('HMGET', META, 'epoch', 'dropped') or {}
  local epoch, newest = whole(meta[1]) or 0, meta[2]
  if not newest or #newest ~= 8 then newest = string.rep('\0', 8) end
  for i = 1, #versions do
    local known = #versions[i] == 8 and struct.unpack('>I4', versions[i]) <= epoch  -- else it is another program's
    if known and newer(versions[i], newest) then newest = versions[i] end
  end
  try('HSET', META, 'dropped', newest)
end
