-- @include identity
local MAX_SEQ = 4294967295  -- the last number of an epoch

-- Whether this server is the one whose history meta speaks of, by the identity that meta has.
local function is_present(noted)
  return noted and noted == identity()
end

-- Whether so many more numbers fit into the epoch; not if another program has overwritten how many are used.
local function fits(used, count)
  return used and used >= 0 and used + count <= MAX_SEQ
end
