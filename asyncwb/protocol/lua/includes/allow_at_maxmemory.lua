-- @include keys
-- At maxmemory a script whose first write frees may go on writing. '' is never a key, so nothing is removed.
local function allow_at_maxmemory()
  redis.call('ZREM', DIRTY, '')
end
