-- @include keys
-- @include try
-- Wakes a sleeping pool by a token in a list. There is one at most: it says that there is work, not how much.
local function wake()
  local tokens = try('LLEN', WAKE)
  if not tokens then redis.call('DEL', WAKE) end
  if not tokens or tokens == 0 then redis.call('LPUSH', WAKE, 1) end
end
