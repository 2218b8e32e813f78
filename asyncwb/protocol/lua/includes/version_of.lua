-- @include keys
-- @include try
local NO_VERSION = string.rep('\0', 8)  -- older than all

-- The version of a key's record: '' if there is no record, NO_VERSION if another program wrote it.
local function version_of(key)
  local version = try('GETRANGE', PREFIX .. key, 0, 7)
  if version == '' or (version and #version == 8) then return version end
  return NO_VERSION
end
