//! The reference: a job as docs/jobs.md tells it, in plain data. It knows no times, sizes or outputs, only what there is.

use std::collections::{BTreeMap, BTreeSet};

use workyard_shared::broker::{JobSettled, JobVerdict};
use workyard_shared::job::{Form, JobState, Phase};

/// Deaths of consumers under one task that make it poison.
const POISON: u32 = 3;
/// Attempts that each task has.
pub const ATTEMPTS: u32 = 2;

/// What is submitted.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub form: Form,
    pub chunks: u64,
    /// Chunks that may be lost.
    pub allowed: u64,
}

impl Shape {
    fn fan(self) -> u64 {
        match self.form {
            Form::Fold { fan_in: Some(n) } => n.into(),
            _ => self.chunks,
        }
    }

    /// How many nodes each level has, that of the maps first.
    fn levels(self) -> Vec<u64> {
        let mut sizes = vec![self.chunks];
        while sizes.len() == 1 || sizes[sizes.len() - 1] > 1 {
            sizes.push(sizes[sizes.len() - 1].div_ceil(self.fan()));
        }
        sizes
    }

    fn partitions(self) -> u64 {
        match self.form {
            Form::Keyed { partitions } => partitions.into(),
            Form::Fold { .. } => 0,
        }
    }

    fn reduces(self) -> u64 {
        match self.form {
            Form::Keyed { .. } => self.partitions(),
            Form::Fold { .. } => self.levels()[1..].iter().sum(),
        }
    }
}

/// Where a live task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Pending,
    Scheduled,
    Held,
    /// Poison, and its job does not know it yet.
    Dead,
}

#[derive(Debug, Clone, Copy)]
pub struct Task {
    pub place: Place,
    pub failures: u32,
    pub crashes: u32,
}

pub type Counts = BTreeMap<&'static str, u64>;

fn count(counts: &mut Counts, name: &'static str, n: u64) {
    if n > 0 {
        *counts.entry(name).or_default() += n;
    }
}

/// One job.
#[derive(Debug)]
pub struct Job {
    pub shape: Shape,
    pub state: JobState,
    pub starts: u64,
    pub maps: Phase,
    pub reduces: Phase,
    pub accepted: u64,
    pub live: BTreeMap<String, Task>,
    pub lost: BTreeSet<u64>,
    pub again: Vec<String>,
    pub tree: BTreeMap<String, u64>,
    pub errors: BTreeSet<String>,
    pub chunks: BTreeSet<u64>,
    pub data: BTreeSet<String>,
    pub out: BTreeSet<String>,
    is_mapped: bool,
    is_reducing: bool,
    /// Reduces that became ready in the step that is under way.
    ready: Vec<String>,
}

/// The other copy of a member.
fn twin(member: &str) -> String {
    member
        .strip_suffix(":b")
        .map_or_else(|| format!("{member}:b"), str::to_owned)
}

fn first(member: &str) -> &str {
    member.trim_end_matches(":b")
}

fn chunk(member: &str) -> Option<u64> {
    first(member).strip_prefix("m:")?.parse().ok()
}

impl Job {
    pub fn submitted(shape: Shape, counts: &mut Counts) -> Self {
        let phase = |total| Phase {
            total,
            ..Phase::default()
        };
        let mut job = Self {
            shape,
            state: JobState::Mapping,
            starts: 1,
            maps: phase(shape.chunks),
            reduces: phase(shape.reduces()),
            accepted: 0,
            live: BTreeMap::new(),
            lost: BTreeSet::new(),
            again: Vec::new(),
            tree: BTreeMap::new(),
            errors: BTreeSet::new(),
            chunks: (0..shape.chunks).collect(),
            data: BTreeSet::new(),
            out: BTreeSet::new(),
            is_mapped: false,
            is_reducing: false,
            ready: Vec::new(),
        };
        job.add((0..shape.chunks).map(|n| format!("m:{n}")).collect(), counts);
        job
    }

    pub fn is_over(&self) -> bool {
        self.state.is_terminal()
    }

    fn add(&mut self, members: Vec<String>, counts: &mut Counts) {
        count(counts, "submitted", members.len() as u64);
        let fresh = Task {
            place: Place::Pending,
            failures: 0,
            crashes: 0,
        };
        self.live.extend(members.into_iter().map(|member| (member, fresh)));
    }

    /// The end of a step that may have made reduces ready.
    pub fn add_ready(&mut self, counts: &mut Counts) {
        let ready = std::mem::take(&mut self.ready);
        self.add(ready, counts);
    }

    fn drop_member(&mut self, member: &str, counts: &mut Counts) {
        if let Some(task) = self.live.remove(member) {
            count(counts, "cancelled", u64::from(task.place != Place::Dead));
        }
    }

    fn end(&mut self, state: JobState, counts: &mut Counts) {
        self.state = state;
        let ready = std::mem::take(&mut self.ready);
        let live: BTreeSet<String> = self.live.keys().map(|member| first(member).to_owned()).collect();
        for member in self.live.keys().cloned().collect::<Vec<_>>() {
            self.drop_member(&member, counts);
        }
        if state == JobState::Completed {
            (self.data, self.tree) = Default::default();
            self.chunks.retain(|chunk| self.lost.contains(chunk));
            self.again.clear();
        } else {
            self.again.extend(ready.into_iter().chain(live));
        }
    }

    fn child_done(&mut self, level: usize, node: u64) {
        let (fan, levels) = (self.shape.fan(), self.shape.levels());
        let place = format!("{level}.{node}");
        let done = self.tree.remove(&place).unwrap_or(0) + 1;
        if done < fan.min(levels[level - 1] - node * fan) {
            self.tree.insert(place, done);
        } else {
            self.ready.push(format!("r:{place}"));
        }
    }

    /// When the last map has ended: lost chunks are left out, and the reduces begin.
    fn check_mapped(&mut self) {
        if self.is_mapped || self.maps.done + self.maps.failed < self.maps.total {
            return;
        }
        (self.is_mapped, self.accepted) = (true, self.maps.failed);
        if let Form::Keyed { partitions } = self.shape.form {
            self.state = JobState::Shuffling;
            self.ready.extend((0..partitions).map(|n| format!("r:{n}")));
            return;
        }
        for chunk in self.lost.clone() {
            self.child_done(1, chunk / self.shape.fan());
        }
        self.state = JobState::Reducing;
    }

    fn fail_member(&mut self, member: &str, counts: &mut Counts) {
        self.live.remove(member);
        self.errors.insert(member.to_owned());
        if self.live.contains_key(&twin(member)) {
            return;
        }
        let Some(chunk) = chunk(member) else {
            self.reduces.failed += 1;
            self.again.push(first(member).to_owned());
            return self.end(JobState::Failed, counts);
        };
        self.lost.insert(chunk);
        self.maps.failed += 1;
        if self.maps.failed > self.shape.allowed {
            return self.end(JobState::Failed, counts);
        }
        self.check_mapped();
    }

    fn done(&mut self, member: &str, counts: &mut Counts) {
        count(counts, "completed", 1);
        self.live.remove(member);
        self.drop_member(&twin(member), counts);
        if let Some(chunk) = chunk(member) {
            self.chunks.remove(&chunk);
            self.maps.done += 1;
            match self.shape.form {
                Form::Keyed { partitions } => {
                    self.data.extend((0..partitions).map(|p| format!("{p}.{chunk}")));
                    // The mark that says for which partitions there is something.
                    self.data.insert(format!("m.{chunk}"));
                }
                Form::Fold { .. } => {
                    self.data.insert(format!("0.{chunk}"));
                    self.child_done(1, chunk / self.shape.fan());
                }
            }
            return self.check_mapped();
        }
        self.reduces.done += 1;
        let place = first(member).trim_start_matches("r:").to_owned();
        let Some((level, node)) = place.split_once('.') else {
            self.out.insert(place);
            if self.reduces.done >= self.shape.partitions() {
                self.end(JobState::Completed, counts);
            }
            return;
        };
        let (level, node): (usize, u64) = (level.parse().unwrap(), node.parse().unwrap());
        let (fan, levels) = (self.shape.fan(), self.shape.levels());
        if level + 1 == levels.len() {
            self.out.insert("0".to_owned());
            return self.end(JobState::Completed, counts);
        }
        for child in node * fan..((node + 1) * fan).min(levels[level - 1]) {
            self.data.remove(&format!("{}.{child}", level - 1));
        }
        self.data.insert(place);
        self.child_done(level + 1, node / fan);
    }

    /// An outcome of who holds it; `None`: the job does not want it any more.
    pub fn settle(&mut self, member: &str, verdict: JobVerdict, counts: &mut Counts) -> Option<JobSettled> {
        if self.is_over() {
            return None;
        }
        let has_twin = self.live.contains_key(&twin(member));
        let task = self.live.get_mut(member)?;
        match verdict {
            JobVerdict::Drop => {
                task.place = Place::Pending;
                return Some(JobSettled::HandedBack);
            }
            JobVerdict::Done => {
                self.done(member, counts);
                return Some(JobSettled::Kept);
            }
            _ => task.failures += 1,
        }
        if verdict == JobVerdict::Retry && task.failures < ATTEMPTS && !has_twin {
            task.place = Place::Scheduled;
            self.errors.insert(member.to_owned());
            count(counts, "retried", 1);
            let phase = if chunk(member).is_some() {
                &mut self.maps
            } else {
                &mut self.reduces
            };
            phase.retried += 1;
            return Some(JobSettled::Retrying);
        }
        count(counts, "failed", 1);
        self.fail_member(member, counts);
        Some(JobSettled::Failed)
    }

    /// Its consumer died; true if it is poison now.
    pub fn crash(&mut self, member: &str, counts: &mut Counts) -> Option<bool> {
        let task = self.live.get_mut(member)?;
        task.crashes += 1;
        let is_poison = task.crashes >= POISON;
        task.place = if is_poison { Place::Dead } else { Place::Pending };
        count(counts, "failed", u64::from(is_poison));
        Some(is_poison)
    }

    /// The maintainer looks at all live tasks.
    pub fn tend(&mut self, counts: &mut Counts) {
        for member in self.live.keys().cloned().collect::<Vec<_>>() {
            let is_dead = self.live.get(&member).is_some_and(|task| task.place == Place::Dead);
            if is_dead && !self.is_over() {
                self.fail_member(&member, counts);
            }
        }
        self.add_ready(counts);
    }

    pub fn reducing(&mut self) {
        if self.is_mapped && !self.is_reducing {
            self.is_reducing = true;
            if self.state == JobState::Shuffling {
                self.state = JobState::Reducing;
            }
        }
    }

    /// Gives these a second copy; how many got one.
    pub fn backup(&mut self, members: &[String], counts: &mut Counts) -> u64 {
        if self.is_over() {
            return 0;
        }
        let copies: Vec<String> = members
            .iter()
            .filter(|member| self.live.contains_key(*member) && !self.live.contains_key(&twin(member)))
            .map(|member| twin(member))
            .collect();
        let maps = copies.iter().filter(|member| chunk(member).is_some()).count() as u64;
        let all = copies.len() as u64;
        self.maps.backup += maps;
        self.reduces.backup += all - maps;
        self.add(copies, counts);
        all
    }

    pub fn cancel(&mut self, counts: &mut Counts) -> &'static str {
        if self.is_over() {
            return "Finished";
        }
        self.end(JobState::Cancelled, counts);
        "Cancelled"
    }

    pub fn retry(&mut self, counts: &mut Counts) -> &'static str {
        if self.state == JobState::Completed {
            return "Completed";
        }
        if !self.is_over() {
            return "Running";
        }
        if !self.is_mapped {
            let lost = std::mem::take(&mut self.lost);
            self.again.extend(lost.into_iter().map(|chunk| format!("m:{chunk}")));
            self.maps.failed = 0;
        }
        (self.reduces.failed, self.starts) = (0, self.starts + 1);
        self.errors.clear();
        self.state = match self.shape.form {
            _ if !self.is_mapped => JobState::Mapping,
            Form::Keyed { .. } if !self.is_reducing => JobState::Shuffling,
            _ => JobState::Reducing,
        };
        let again = std::mem::take(&mut self.again);
        self.add(again, counts);
        "Retrying"
    }
}
