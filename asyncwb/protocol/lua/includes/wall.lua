-- The server's clock (ms, its microseconds as a fraction). It may be set forward or back at any time.
local function exact_wall()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- The same in whole milliseconds, for times that people read.
local function wall()
  return math.floor(exact_wall())
end
