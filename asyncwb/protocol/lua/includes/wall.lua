-- Milliseconds of the server's clock, which may be set: for what people read.
local function wall()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
