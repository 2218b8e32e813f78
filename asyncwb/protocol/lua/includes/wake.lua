-- @include keys
-- @include try
-- One token at most: it says that there is work, not how much.
local function wake()
  local tokens = try('LLEN', WAKE)
  if not tokens then redis.call('DEL', WAKE) end
  if not tokens or tokens == 0 then redis.call('LPUSH', WAKE, 1) end
end
