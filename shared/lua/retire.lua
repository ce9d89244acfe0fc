--[[ retire: removes a queue in which nothing waits, runs or is kept to be looked at: settings, counters, results, what was
rejected. Runs under OOM.

KEYS  the shared keys, audit, inbox, inbox:ingesting, rejected, vitals, fleet, jobs, jobs:due
ARGV  who, for the audit
Reply OK; an error that says what is still there, and nothing was removed

What operators did stays for 90 days, or who removes a queue would remove the note that he did.
]]
local AUDIT_DAYS = 90

local function retire(keys, argv)
  local audit, inbox, ingesting, jobs, last = keys[OWN + 1], keys[OWN + 2], keys[OWN + 3], keys[OWN + 7], keys[OWN + 8]
  if not last then return refuse('retire takes audit, inbox, inbox:ingesting, rejected, vitals, fleet, jobs and jobs:due behind the shared keys') end
  local wrong = check_audit(audit, argv[1])
  if wrong then return wrong end
  local now = clock()
  local held = {
    { call('HLEN', keys[TASKS]), 'task', 'tasks', ', dead letters included (cancel or purge first)' },
    { call('LLEN', inbox) + call('LLEN', ingesting), 'item', 'items', ' in its inbox (a consumer takes in what is there, or purge inbox)' },
    { call('ZCARD', jobs), 'map-reduce job', 'map-reduce jobs', ' (`workyard job delete` first)' },
    { call('ZCOUNT', keys[CONSUMERS], now, '+inf'), 'consumer', 'consumers', ' at work (stop first)' },
  }
  local said = {}
  for _, it in ipairs(held) do
    if it[1] > 0 then said[#said + 1] = int(it[1]) .. ' ' .. (it[1] == 1 and it[2] or it[3]) .. it[4] end
  end
  if said[1] then return refuse('the queue is not empty: ' .. table.concat(said, ', ')) end
  for i = 1, OWN + 8 do
    if keys[i] ~= audit then call('UNLINK', keys[i]) end
  end
  note(audit, argv[1], 'delete-queue', 1, '')
  call('EXPIRE', audit, AUDIT_DAYS * 86400)
  return redis.status_reply('OK')
end

register('retire', retire, 'allow-oom', { 'audit', 'inbox', 'inbox:ingesting', 'rejected', 'vitals', 'fleet', 'jobs', 'jobs:due' })
