-- @include keys
-- @include try
-- @include wall
local LONGEST = 600000  -- ms: nothing is scheduled further ahead, unless another program did it
local JUMP = 1000       -- ms: a clock that is set back by more has jumped; by less it was merely adjusted

-- A field of meta that is a time or a span (ms, perhaps with a fraction); 0 if there is none, or none that can be true:
-- no clock will reach 2^46.
local function noted_time(text)
  local ms = text and #text <= 20 and tonumber(string.match(text, '^%d+%.?%d*$') or '') or 0
  return ms < 2^46 and ms or 0
end

-- The steady clock (ms, its microseconds as a fraction), for ages: the server's, but it never goes back. Where the
-- server's clock is set back, or that of a promoted replica is slow, it goes on from the latest time noted in meta.
-- Each put notes it, and while anything is unsaved recover does, once a second.
-- Returns it, how far the server's clock is behind it, how far schedules are ahead of it (see `clock`), whether
-- schedules leap now because the server's clock was set back, and the time that was noted last. They leap only if
-- `notes`, by which a caller promises to note the results in meta; after a leap it has to wake a pool.
local function times(notes)
  local meta, server = try('HMGET', META, 'clock', 'behind', 'ahead') or {}, exact_wall()
  local latest, ahead = noted_time(meta[1]), noted_time(meta[3])
  local now = server + noted_time(meta[2])
  local leaps = notes and latest - now > JUMP
  if leaps then ahead = ahead + LONGEST end
  now = math.max(now, latest)
  return now, now - server, ahead, leaps, latest
end

-- The arguments by which HSET notes these times in meta.
local function time_fields(now, behind, ahead)
  return 'clock', string.format('%.3f', now), 'behind', string.format('%.3f', behind),
    'ahead', string.format('%.0f', ahead)
end

-- The clock that due times and leases go by (ms, with a fraction). It leaps by the longest delay when the server's
-- clock was set back: whatever was scheduled before is due at once, as it is when that clock is set forward. Too early
-- is safe, since saves are conditional on versions; waiting for a time that another clock has set isn't.
local function clock()
  local now, _, ahead = times()
  return now + ahead
end

-- The same for callers that schedule something for later. It notes the time, because otherwise nobody could tell if the
-- server's clock was set back afterwards. (Less than a jump isn't noted; nor is anything before the first put, as meta
-- may not exist.)
local function noted_clock()
  local now, behind, ahead, _, latest = times()
  if latest > 0 and now - latest > JUMP then try('HSET', META, time_fields(now, behind, ahead)) end
  return now + ahead
end
