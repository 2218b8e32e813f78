-- leave: a process ends, and forgets its writers. A late put of theirs is refused for a writer that isn't known.
-- KEYS  8… writers
-- Reply how many there were
-- The list itself says that there is work, and a process that was to find it may have found the work first.
-- @include keys
if redis.call('ZCARD', DIRTY) == 0 then redis.call('DEL', WAKE) end
local gone = 0
for i = 8, #KEYS do gone = gone + redis.call('DEL', KEYS[i]) end
return gone
