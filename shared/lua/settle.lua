--[[ What complete, fail and release share: the fence, and the memory of the last answer.

Fence: a task is the consumer's only while its running hash says so with this very token.
Repeat: batches are numbered per consumer and edge; the last number gets its first answer again, so
that a lost reply is never mistaken for a lost lease. An older one is a copy that the network held back:
it was answered long ago, and must not take the place of the newer answer. It is stale as a whole.
]]
local function answered_settle(keys, session, edge, consumer, batch)
  if not call('ZSCORE', keys[CONSUMERS], consumer) then return nil, true end
  local seen = call('HGET', session, edge)
  local number, letters = match(seen or '', '^(%d+) (%l*)$')
  if number == batch then return letters end
  if number and tonumber(number) > tonumber(batch) then return nil, true end
end

-- The score that the task was claimed with, if the consumer still holds it with this token.
local function held_score(value, token)
  if value and sub(value, 1, #token + 1) == token .. ' ' then return sub(value, #token + 2) end
end

-- A score behind all that is pending, of the task's own priority.
local function score_behind(keys, id)
  local sequence = (tonumber(call('HGET', keys[STATE], 'seq') or '0') or 0) + 1
  call('HSET', keys[STATE], 'seq', int(sequence))
  return pending_score(options_of(call('HGET', keys[TASKS], id) or '').priority or DEFAULT.priority, sequence)
end

-- The score with which a task goes back into PENDING: the one that it was claimed with. What somebody else wrote there is
-- no score, and must not fail an edge behind its first write: then the task goes behind the others.
local function held_order(keys, id, score)
  local n = tonumber(score)
  if n and n >= 0 and n < 256 * PRIORITY_SPAN and n % 1 == 0 then return int(n) end
  return score_behind(keys, id)
end

local function all_stale(keys, n)
  check_stats(keys)
  bump(keys, (clock()), { stale = n })
  return string.rep('s', n)
end

local function check_batch(argv, width, name)
  local n = (#argv - 2) / width
  if n < 1 or n > MAX_BATCH or n ~= floor(n) then
    return nil, refuse(name .. ' takes 1 to ' .. MAX_BATCH .. ' tasks of ' .. width .. ' arguments after consumer and batch')
  end
  if not find(argv[2], '^%d+$') then return nil, refuse('batch must be a number') end
  return n
end

local function started_at(now, run_ms)
  local n = tonumber(run_ms)
  if not n or n < 0 then return '0' end
  return int(math.max(0, now - n))
end
