-- A field of meta as a whole number; nil if it is something else, which another program must have put there.
local function whole(text)
  if not text or #text > 16 then return nil end
  return tonumber(string.match(text, '^0$') or string.match(text, '^-?[1-9]%d*$') or '')
end
