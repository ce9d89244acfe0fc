--[[ checkup and set_right: what a queue has once: its state, its counters, its consumers. docs/operations.md (doctor) explains the findings.

checkup:   KEYS the shared keys   Reply subject and finding in turn: bad-state (a field of the state), bad-counter (one that is no number),
           drifted (a total below what is there), bad-consumer, endless-lease, parked. Reads only.
set_right: KEYS the shared keys   Reply the same: what was mended. Runs under OOM.
]]
local PLAIN_STATE, MOST_CHECKED, MOST_STATS = { 'tick', 'lease', 'grace', 'follow' }, 10000, 25000
local LONGEST_LEASE, A_MINUTE = 86400000, 60000
local SEQUENCES, TOKENS = 17592186044416, 9007199254740992 -- 2^44: what a score has room for; 2^53

-- The highest sequence in pending: within a priority it is the last, so one look per priority finds it.
local function highest_sequence(keys)
  local highest, below = 0, '+inf'
  for _ = 0, 255 do
    local last = call('ZRANGE', keys[PENDING], below, '0', 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')
    local score = tonumber(last[2] or '')
    if not score then break end
    local priority = floor(score / PRIORITY_SPAN)
    if sound(score, LATEST) then highest = math.max(highest, score - priority * PRIORITY_SPAN) end
    below = sound(score, LATEST) and '(' .. int(priority * PRIORITY_SPAN) or int(LATEST)
  end
  return highest
end

local function look_at_state(keys, found)
  local sequence, token = call('HGET', keys[STATE], 'seq'), call('HGET', keys[STATE], 'token')
  local highest, _, us = highest_sequence(keys), clock()
  if not sound(sequence or '0', SEQUENCES) or tonumber(sequence or '0') < highest then
    found('seq', 'bad-state', function() call('HSET', keys[STATE], 'seq', int(highest)) end)
  end
  -- Beyond 2^53 the next token would be the same one again, and fence nothing.
  if not sound(token or '0', TOKENS - 1) then
    found('token', 'bad-state', function() call('HSET', keys[STATE], 'token', int(us)) end)
  end
  for i, value in ipairs(call('HMGET', keys[STATE], unpack(PLAIN_STATE))) do
    if value and not sound(value, LATEST) then
      found(PLAIN_STATE[i], 'bad-state', function() call('HDEL', keys[STATE], PLAIN_STATE[i]) end)
    end
  end
end

local function look_at_consumers(keys, found, now)
  local all = call('ZRANGE', keys[CONSUMERS], 0, MOST_CHECKED - 1, 'WITHSCORES')
  for i = 1, #all, 2 do
    local name, ends = all[i], tonumber(all[i + 1])
    if find(name, '[^%w._-]') or #name > 128 or name == '' then
      found(name, 'bad-consumer', function() call('ZREM', keys[CONSUMERS], name) end)
    elseif ends > now + 2 * LONGEST_LEASE then
      found(name, 'endless-lease', function() call('ZADD', keys[CONSUMERS], int(now + A_MINUTE), name) end)
    end
  end
  for _, name in ipairs(call('ZRANGE', keys[PARKED], 0, MOST_CHECKED - 1)) do
    if not call('ZSCORE', keys[CONSUMERS], name) then
      found(name, 'parked', function() call('ZREM', keys[PARKED], name) end)
    end
  end
end

-- Counters as numbers: totals, and by kind. What is no number is told.
local function read_counters(keys, found)
  local fields, totals, kinds = call('HGETALL', keys[STATS]), {}, {}
  for i = 1, #fields, 2 do
    local name, n = fields[i], match(fields[i + 1], '^%d+$') and tonumber(fields[i + 1])
    local counter, kind = match(name, '^([^ ]*) (.*)$')
    if not n or n > TOKENS then
      found(name, 'bad-counter', function() call('HDEL', keys[STATS], name) end)
    elseif counter then
      kinds[kind] = kinds[kind] or {}
      kinds[kind][counter] = n
    else
      totals[name] = n
    end
  end
  return totals, kinds
end

-- Per counter the sum of its kinds. Of a kind of which more have ended than were added one counter is wrong, and nobody can tell which:
-- nothing is derived from its ends, else one wrong counter would make others wrong.
local ENDS = { 'completed', 'cancelled', 'expired' }
local function sums_of(kinds)
  local sums = {}
  for _, of in pairs(kinds) do
    local ended = 0
    for _, counter in ipairs(ENDS) do ended = ended + (of[counter] or 0) end
    if ended > (of.submitted or 0) then
      for _, counter in ipairs(ENDS) do of[counter] = nil end
    end
    for counter, n in pairs(of) do sums[counter] = (sums[counter] or 0) + n end
  end
  return sums
end

-- A total is at least the sum of its kinds, and as many were submitted as are there or have ended, as the kinds tell: a total
-- that is too high is as wrong as one that is too low.
local function look_at_counters(keys, found)
  if call('HLEN', keys[STATS]) > MOST_STATS then return end
  local totals, kinds = read_counters(keys, found)
  local least, seen = sums_of(kinds), call('HLEN', keys[TASKS])
  for _, counter in ipairs(ENDS) do seen = seen + math.min(totals[counter] or 0, least[counter] or 0) end
  least.submitted = math.max(least.submitted or 0, seen)
  for counter, n in pairs(least) do
    if (totals[counter] or 0) < n then
      found(counter, 'drifted', function() call('HSET', keys[STATS], counter, int(n)) end)
    end
  end
end

local function look_over(mends)
  return function(keys)
    check_finish(keys)
    local now, reply, mend = clock(), {}, {}
    local function found(subject, finding, how)
      reply[#reply + 1], reply[#reply + 2], mend[#mend + 1] = subject, finding, how
    end
    look_at_state(keys, found)
    look_at_consumers(keys, found, now)
    look_at_counters(keys, found)
    for i = 1, mends and #mend or 0 do mend[i]() end
    return reply
  end
end

register('checkup', look_over(false), 'no-writes')
register('set_right', look_over(true), 'allow-oom')
