-- leave: a process ends, and its writers are forgotten. A put of theirs that arrives late is refused.
-- KEYS  11… writers
-- Reply how many there were
-- @include keys
-- The token of a wake-up can outlast the work that it announced, if a flusher found the work first.
if redis.call('ZCARD', DIRTY) == 0 then redis.call('DEL', WAKE) end
local gone = 0
for i = 11, #KEYS do gone = gone + redis.call('DEL', KEYS[i]) end
return gone
