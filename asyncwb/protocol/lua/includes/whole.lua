-- A whole number of meta; nil for what another program has put there.
local function whole(text)
  if not text or #text > 16 then return nil end
  return tonumber(string.match(text, '^0$') or string.match(text, '^-?[1-9]%d*$') or '')
end
