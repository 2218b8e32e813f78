-- The server's clock (ms), for times that people read. It may be set forward or back at any time.
local function wall()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
