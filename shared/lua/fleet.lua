--[[ What the maintainer reads of all consumers, and what it tells them with their next beats.

survey: KEYS the shared keys, vitals
        Reply now in ms | the setting `balance` ('' = default) | number of consumers | per consumer 2: id, vitals ('' = none)
        | ids whose vitals are left over. Reads only; 1,000 consumers at most.
fleet:  KEYS the shared keys, vitals, fleet   ARGV the fleet, JSON | consumers whose vitals may go, if they have no session
        Reply the new version. Runs under OOM.

It is advice: consumers use it to judge themselves, and no task's state depends on it. What nobody renews for a
minute is about nobody and goes.
]]
local MOST_SURVEYED = 1000

local function survey(keys)
  local vitals, ids = keys[OWN + 1], call('ZRANGE', keys[CONSUMERS], 0, MOST_SURVEYED - 1)
  local reply, reported = { (clock()), call('HGET', keys[CFG], 'balance') or '', #ids }, 0
  local reports = ids[1] and call('HMGET', vitals, unpack(ids)) or {}
  for i, id in ipairs(ids) do
    if reports[i] then reported = reported + 1 end
    reply[2 * i + 2], reply[2 * i + 3] = id, reports[i] or ''
  end
  if call('HLEN', vitals) > reported then
    local known = {}
    for _, id in ipairs(ids) do known[id] = true end
    local all = call('HKEYS', vitals)
    for i = 1, math.min(#all, 2 * MOST_SURVEYED) do
      if not known[all[i]] then reply[#reply + 1] = all[i] end
    end
  end
  return reply
end

local MAX_FLEET, FLEET_TTL = 262144, 60000

local function set_fleet(keys, argv)
  local vitals, fleet, text = keys[OWN + 1], keys[OWN + 2], argv[1]
  if not text then return refuse('fleet takes the fleet, then consumers') end
  if #text > MAX_FLEET then return refuse('the fleet exceeds ' .. MAX_FLEET .. ' bytes') end
  if #argv > MAX_BATCH + 1 then return refuse('fleet takes at most ' .. MAX_BATCH .. ' consumers') end
  local version = (tonumber(match(call('GET', fleet) or '', '^%d+')) or 0) + 1
  call('HLEN', vitals); call('ZCARD', keys[CONSUMERS])
  for i = 2, #argv do
    if not call('ZSCORE', keys[CONSUMERS], argv[i]) then call('HDEL', vitals, argv[i]) end
  end
  call('SET', fleet, int(version) .. ' ' .. text, 'PX', FLEET_TTL)
  return version
end

register('survey', survey, 'no-writes', { 'vitals' })
register('fleet', set_fleet, 'allow-oom', { 'vitals', 'fleet' })
