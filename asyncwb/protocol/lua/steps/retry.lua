-- retry: dead-lettered records become dirty again and due at once, and their attempts are counted from 0.
-- ARGV  2… keys
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include clock
-- @include removal
-- @include wake
allow_at_maxmemory()
local now = clock()
local retried = 0
for i = 2, #ARGV do
  local key = ARGV[i]
  if redis.call('HEXISTS', DEAD, key) == 1 then
    if redis.call('EXISTS', PREFIX .. key) == 1 then
      redis.call('ZADD', DIRTY, 'NX', now, key)
      retried = retried + 1
    end
    forget_failures(key)
  end
end
if retried > 0 then wake() end
return retried
