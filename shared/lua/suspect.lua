--[[ try: a consumer says which suspect it starts. Runs under OOM.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | id | token | '1' when others start beside it from now on ('': it starts, alone)
Reply 'ok', or 'stale' (not this consumer's any more; nothing was changed)

A suspect is a task that one more death of a consumer would make poison. All that a dead consumer held is charged with its
death, but of its suspects only the one that it said here, if its claims promised to say it: what only waited in its hands
killed nobody. One at a time is remembered; the token tells an earlier claim of the same task. Beside others it may be one of
them that kills: it is charged, but bears more of such deaths (see reclaim.lua).
]]
local function try(keys, argv)
  local running, session, id, token = keys[OWN + 1], keys[OWN + 2], argv[2], argv[3]
  if not find(token or '', '^%d+$') then return refuse('try takes a consumer, an id and its token') end
  if not call('ZSCORE', keys[CONSUMERS], argv[1]) then return 'stale' end
  local said = call('HGET', session, 'tried')
  if not held_score(call('HGET', running, id), token) then return 'stale' end
  local tried = token .. ' ' .. id
  if argv[4] == '1' then
    if said ~= tried then return 'ok' end -- late: the next one has started
    tried = tried .. ' +'
  end
  call('HSET', session, 'tried', tried)
  return 'ok'
end

register('try', try, 'allow-oom', { 'running:<consumer>', 'session:<consumer>' })
