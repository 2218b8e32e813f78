-- @include keys
-- @include try
-- When the oldest of the unsaved writes was made (ms), about: the earliest due are the oldest, and looking at some of
-- each set is near enough. Those that failed and wait for their back-off can be left out. now + 1 if there is none.
local function oldest_since(now, look_at, skip_failed)
  local oldest = now + 1
  local failed = skip_failed and redis.call('HLEN', RETRY) > 0
  for _, set in ipairs({DIRTY, LEASE}) do
    for _, key in ipairs(redis.call('ZRANGE', set, 0, look_at - 1)) do
      local since = try('GETRANGE', PREFIX .. key, 8, 15) or ''
      if #since == 8 and not (failed and redis.call('HEXISTS', RETRY, key) == 1) then
        oldest = math.min(oldest, (struct.unpack('>I8', since)))
      end
    end
  end
  return oldest
end
