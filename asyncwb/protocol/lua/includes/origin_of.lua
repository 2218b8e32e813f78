-- @include version_of
-- What failures of a record are counted by: its version, but while it has updates, that of its oldest content, since
-- those that are added don't change what has failed. Empty, and NO_VERSION, as in `version_of`.
local function origin_of(key)
  local head = try('GETRANGE', PREFIX .. key, 0, 25)
  if head == '' then return '' end
  if not head or #head < 8 then return NO_VERSION end
  if #head == 26 and string.sub(head, 17, 17) == 'u' then return string.sub(head, 19, 26) end
  return string.sub(head, 1, 8)
end
