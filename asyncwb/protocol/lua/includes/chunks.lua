local CHUNK = 2000      -- values per unpack; Lua's C stack ends near 8,000

-- A command with a long list of arguments, in chunks; returns the sum of the integer replies.
local function write_all(command, key, args)
  local total = 0
  for i = 1, #args, CHUNK do
    total = total + redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, #args)))
  end
  return total
end

-- A command that replies with one item for each argument, in chunks.
local function read_all(command, key, args)
  local found = {}
  for i = 1, #args, CHUNK do
    local part = redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, #args)))
    for j = 1, #part do found[i + j - 1] = part[j] end
  end
  return found
end
