-- redis.call for a key or field that another program may have replaced; nil if the call fails because of that.
local function try(...)
  local fine, reply = pcall(redis.call, ...)
  if fine then return reply end
  local text = tostring(type(reply) == 'table' and reply.err or reply)
  if string.find(text, 'WRONGTYPE') or string.find(text, 'not an integer') or string.find(text, 'overflow') then
    return nil
  end
  error(reply, 0)
end
