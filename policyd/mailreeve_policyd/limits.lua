-- Charges several limits at once, all or none; with the verb "usage", answers what charging would answer; with
-- the verb "refund", takes back what a charge counted, where it was one of several slots and another refused.
-- The same arithmetic as limits_window.py and limits_judge.py, in one atomic step inside Redis.
--
-- KEYS  for each charge: its counter, its marks. Nothing else is touched.
-- ARGV  verb; now (microseconds, or "" for this server's clock); how long a mark is remembered (microseconds);
--       then for each charge: "units" or "distinct", amount, maximum, period (seconds), member ("" for units),
--       mark ("" for none), "1" if exceeding it refuses.
--       To refund: the moment of the charge as now, and in the place of the maximum what the charge answered
--       as moment; what was known or exceeded is not to be named.
-- Gives { seconds, microseconds, then for each charge: used, what became of it, a moment, what this call
--       added }. It is counted (0), exceeded (1), or known by its mark and not counted again (2). Where it is
--       exceeded, the moment is what must leave the window: the bucket, or for distinct when the member was
--       last seen. Where a member is counted, it is when that was seen before. -1 for nothing or never.
--
-- A counter is a packed array { bucket, units, bucket, units, ... }, oldest first; distinct members and marks
-- are sorted sets by the moment in microseconds. Numbers are doubles: every product stays below 2^53.

local BUCKETS = 60
local MICROSECONDS = 1000000
-- keys outlive what they hold by a minute, for the clock of a replica that takes over
local SLACK_MILLISECONDS = 60000
-- marks that are over count for nothing, so that they may lie for a while: one charge in so many, as the
-- microseconds have it, sweeps them out
local SWEEP_ONE_IN = 16
local FIELDS = 7
local COUNTED, EXCEEDED, KNOWN = 0, 1, 2
local NEVER = -1

local verb = ARGV[1]
local seconds, micros
if ARGV[2] == '' then
  local time = redis.call('TIME')
  seconds, micros = tonumber(time[1]), tonumber(time[2])
else
  local given = tonumber(ARGV[2])
  seconds = math.floor(given / MICROSECONDS)
  micros = given - seconds * MICROSECONDS
end
local now = seconds * MICROSECONDS + micros
local remember = tonumber(ARGV[3])

local function whole(number)
  return string.format('%.0f', number)
end

-- floor(now * 60 / period), in two steps that stay exact
local function bucket_of(period)
  local sixtieths = seconds * BUCKETS
  local quotient = math.floor(sixtieths / period)
  local rest = (sixtieths - quotient * period) * MICROSECONDS + micros * BUCKETS
  return quotient + math.floor(rest / (period * MICROSECONDS))
end

-- The counter's window: what lies ahead of the clock was counted before it was set back, and counts as now.
local function read_counter(window)
  local current = bucket_of(window.period)
  local packed = redis.call('GET', window.key)
  local stored = packed and cmsgpack.unpack(packed) or {}
  window.current, window.held, window.buckets = current, 0, {}
  local newest = 0
  for i = 1, #stored, 2 do
    local bucket, units = math.min(stored[i], current), stored[i + 1]
    if stored[i] > current then window.was_ahead = true end
    if bucket >= current - BUCKETS then
      if newest > 0 and window.buckets[newest - 1] == bucket then
        window.buckets[newest] = window.buckets[newest] + units
      else
        window.buckets[newest + 1], window.buckets[newest + 2] = bucket, units
        newest = newest + 2
      end
      window.held = window.held + units
    end
  end
end

local function read_members(window)
  window.since = now - window.period * MICROSECONDS
  window.held = redis.call('ZCOUNT', window.key, whole(window.since), '+inf')
  window.seen = {}
end

-- When a member that is in the window was seen; -1 for one that is not
local function seen_at(window, member)
  local seen = redis.call('ZSCORE', window.key, member)
  return seen and tonumber(seen) >= window.since and tonumber(seen) or NEVER
end

local function weight(window, charge)
  if not window.seen then return charge.amount end
  charge.moment = seen_at(window, charge.member)
  if window.seen[charge.member] or charge.moment >= 0 then return 0 end
  return 1
end

-- What the call asks for under this key, the charge included
local function asked(window, charge)
  if not window.seen then return window.added + charge.amount end
  return window.asked + (window.seen[charge.member] and 0 or 1)
end

local function add(window, charge, units)
  window.added, window.asked = window.added + units, asked(window, charge)
  if window.seen then window.seen[charge.member] = true end
end

local function bucket_to_leave(window, surplus)
  local freed = 0
  for i = 1, #window.buckets, 2 do
    freed = freed + window.buckets[i + 1]
    if freed >= surplus then return window.buckets[i] end
  end
  return NEVER
end

-- The surplus-th oldest member that the call does not ask for itself
local function member_to_leave(window, charge, surplus)
  local expired = redis.call('ZCOUNT', window.key, '-inf', '(' .. whole(window.since))
  local last = expired + surplus + window.asked
  local oldest = redis.call('ZRANGE', window.key, expired, last, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if oldest[i] ~= charge.member and not window.seen[oldest[i]] then
      surplus = surplus - 1
      if surplus == 0 then return math.min(tonumber(oldest[i + 1]), now) end
    end
  end
  return NEVER
end

local function is_marked(charge)
  if charge.pending[charge.mark] then return true end
  local at = redis.call('ZSCORE', charge.marks, charge.mark)
  return at and now - remember < tonumber(at) and tonumber(at) <= now + remember
end

local function judge(charge)
  local window = charge.window
  if charge.mark ~= '' and is_marked(charge) then
    charge.became = KNOWN
    return
  end
  local units = weight(window, charge)
  local surplus = window.held + window.added + units - charge.maximum
  if surplus <= 0 then
    add(window, charge, units)
    if charge.mark ~= '' then charge.pending[charge.mark] = true end
    return
  end
  charge.became, charge.moment = EXCEEDED, NEVER
  if asked(window, charge) > charge.maximum then return end
  if window.seen then
    charge.moment = member_to_leave(window, charge, surplus)
  else
    charge.moment = bucket_to_leave(window, surplus)
  end
end

local function keep_buckets(window)
  local life = math.ceil(window.period * 1000 * (BUCKETS + 1) / BUCKETS) + SLACK_MILLISECONDS
  redis.call('SET', window.key, cmsgpack.pack(window.buckets), 'PX', whole(life))
end

local function write_counter(window)
  if window.added == 0 then return end
  local buckets = window.buckets
  if #buckets > 0 and buckets[#buckets - 1] == window.current then
    buckets[#buckets] = buckets[#buckets] + window.added
  else
    buckets[#buckets + 1] = window.current
    buckets[#buckets + 1] = window.added
  end
  keep_buckets(window)
end

local function set_members_back(window)
  for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', window.key, '(' .. whole(now), '+inf')) do
    redis.call('ZADD', window.key, whole(now), ahead)
  end
end

local function write_members(window)
  if not next(window.seen) then return end
  redis.call('ZREMRANGEBYSCORE', window.key, '-inf', '(' .. whole(window.since))
  set_members_back(window)
  for member in pairs(window.seen) do
    redis.call('ZADD', window.key, whole(now), member)
  end
  redis.call('PEXPIRE', window.key, whole(window.period * 1000 + SLACK_MILLISECONDS))
end

local function write_marks(key, pending)
  if not next(pending) then return end
  if micros % SWEEP_ONE_IN == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now - remember))
    redis.call('ZREMRANGEBYSCORE', key, '(' .. whole(now + remember), '+inf')
  end
  for mark in pairs(pending) do
    redis.call('ZADD', key, whole(now), mark)
  end
  redis.call('PEXPIRE', key, whole(remember / 1000 + SLACK_MILLISECONDS))
end

if verb == 'refund' then
  -- Only what is still as the charge left it is taken back: a mark or a member that was seen again meanwhile let
  -- somebody else through.
  local function refund_counter(key, charge)
    local packed = redis.call('GET', key)
    if not packed then return end
    local current, kept = bucket_of(charge.period), {}
    for at, number in ipairs(cmsgpack.unpack(packed)) do
      kept[at] = number
      if at % 2 == 0 and kept[at - 1] == current then kept[at] = math.max(number - charge.amount, 0) end
    end
    redis.call('SET', key, cmsgpack.pack(kept), 'KEEPTTL')
  end

  local function refund_member(key, charge)
    if tonumber(redis.call('ZSCORE', key, charge.member) or NEVER) ~= now then return end
    if charge.before == NEVER then
      redis.call('ZREM', key, charge.member)
    else
      redis.call('ZADD', key, whole(charge.before), charge.member)
    end
  end

  local function refund(key, marks_key, charge)
    if charge.mark ~= '' then
      if tonumber(redis.call('ZSCORE', marks_key, charge.mark) or NEVER) ~= now then return end
      redis.call('ZREM', marks_key, charge.mark)
    end
    if charge.member == '' then refund_counter(key, charge) else refund_member(key, charge) end
  end

  for i = 1, #KEYS / 2 do
    local at = 3 + (i - 1) * FIELDS
    refund(KEYS[2 * i - 1], KEYS[2 * i], {
      amount = tonumber(ARGV[at + 2]), before = tonumber(ARGV[at + 3]), period = tonumber(ARGV[at + 4]),
      member = ARGV[at + 5], mark = ARGV[at + 6],
    })
  end
  return {}
end

local windows, marks, charges = {}, {}, {}
local refused = false
for i = 1, #KEYS / 2 do
  local key, marks_key = KEYS[2 * i - 1], KEYS[2 * i]
  local at = 3 + (i - 1) * FIELDS
  local window = windows[key]
  if not window then
    window = { key = key, period = tonumber(ARGV[at + 4]), added = 0, asked = 0 }
    windows[key], marks[marks_key] = window, {}
    if ARGV[at + 1] == 'distinct' then read_members(window) else read_counter(window) end
  end
  local charge = {
    window = window, marks = marks_key, pending = marks[marks_key], became = COUNTED, moment = NEVER,
    amount = tonumber(ARGV[at + 2]), maximum = tonumber(ARGV[at + 3]),
    member = ARGV[at + 5], mark = ARGV[at + 6],
  }
  judge(charge)
  if charge.became == EXCEEDED and ARGV[at + 7] == '1' then refused = true end
  charges[i] = charge
end

if verb == 'charge' and not refused then
  for _, window in pairs(windows) do
    if window.seen then write_members(window) else write_counter(window) end
  end
  for key, pending in pairs(marks) do
    write_marks(key, pending)
  end
else
  -- Nothing is added: what lies ahead of the clock is dated now all the same, or it would be so for ever.
  for _, window in pairs(windows) do
    if window.seen then
      set_members_back(window)
    elseif window.was_ahead then
      keep_buckets(window)
    end
  end
end

local answer = { seconds, micros }
for _, charge in ipairs(charges) do
  local window = charge.window
  answer[#answer + 1] = refused and window.held or window.held + window.added
  answer[#answer + 1] = charge.became
  answer[#answer + 1] = charge.moment
  answer[#answer + 1] = refused and 0 or window.added
end
return answer
