--[[ The next attempt of a task that failed: when, and how urgent. What fail and job_settle share. ]]
local function backoff(options, failures, random)
  local function of(name) return options['backoff_' .. name] or DEFAULT['backoff_' .. name] end
  local delay = math.min(of('base') * of('factor') ^ failures, of('cap'))
  return floor(delay * (1 + of('jitter') * random))
end

local function retry_later(keys, id, options, m, now, delay, err)
  local step = options.retry_priority_step or DEFAULT.retry_priority_step
  local priority = (options.priority or DEFAULT.priority) + step * m.failures
  m.error, m.at, m.reason = sub(err, 1, MAX_ERROR), int(now), 'error'
  call('HSET', keys[META], id, format_meta(m))
  call('ZADD', keys[SCHEDULED], due_score(now + delay, priority), id)
  return now + delay
end
