//! What the runner is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::mutant::Mutant;
use crate::plan::{Kind, Step, plan};
use crate::profile::Profile;

/// Runs consumers under load on a Redis of its own, makes faults happen, and checks afterwards what became of every task.
#[derive(Debug, Parser)]
#[command(name = "scripts/chaos")]
pub(crate) struct Args {
    /// Which faults come when; a run that failed is repeated by its seed
    #[arg(long, default_value_t = u64::from(std::process::id()))]
    pub(crate) seed: u64,
    /// How long the load lasts
    #[arg(long, default_value_t = 5.0)]
    pub(crate) minutes: f64,
    /// How Redis keeps its data
    #[arg(long, value_enum, default_value_t = Profile::Always)]
    pub(crate) profile: Profile,
    /// Tasks a second
    #[arg(long, default_value_t = 1100)]
    pub(crate) rate: u32,
    /// How many percent of the tasks take seconds
    #[arg(long, default_value_t = 1.0)]
    pub(crate) long: f64,
    /// One of so many replies is lost, or cut, while replies are
    #[arg(long, default_value_t = 20)]
    pub(crate) one_in: u32,
    /// Consumers
    #[arg(long, default_value_t = 4)]
    pub(crate) consumers: usize,
    /// Only these kinds of faults
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) faults: Vec<Kind>,
    /// Break the protocol in this way: the run has to fail
    #[arg(long, value_enum)]
    pub(crate) mutant: Option<Mutant>,
    /// Print the faults and when they come, and end
    #[arg(long)]
    pub(crate) schedule: bool,
    /// Write the figures into the table of this document
    #[arg(long)]
    pub(crate) docs: Option<PathBuf>,
    /// Write the figures to this file as JSON
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Args {
    /// The arguments of this program; ends it with 2 if they do not go together.
    pub(crate) fn checked() -> Self {
        let args = Self::parse();
        if let Err(wrong) = args.check() {
            Self::command().error(ErrorKind::ArgumentConflict, wrong).exit();
        }
        args
    }

    fn check(&self) -> Result<(), String> {
        let name = self.profile.name();
        let possible: Vec<Kind> = self.profile.kinds().collect();
        if let Some(other) = self.faults.iter().find(|kind| !possible.contains(kind)) {
            let names: Vec<String> = possible.iter().map(|kind| kind.name()).collect();
            let names = names.join(", ");
            return Err(format!(
                "there is no {} in the profile {name}; it has {names}",
                other.name()
            ));
        }
        match self.mutant {
            Some(Mutant::Unconfirmed) if !self.profile.is_replicated() => Err(format!(
                "--mutant unconfirmed needs replicas, so --profile sentinel or cluster, not {name}"
            )),
            Some(Mutant::Unconfirmed) | None => Ok(()),
            Some(_) if self.profile.is_replicated() => Err(format!(
                "this mutant needs one Redis, so --profile always or everysec, not {name}"
            )),
            Some(_) => Ok(()),
        }
    }

    /// How long the load lasts.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64((self.minutes * 60.0).max(1.0))
    }

    /// The faults of this run.
    pub(crate) fn plan(&self) -> Vec<Step> {
        let kinds = match (&self.faults[..], self.mutant) {
            // Without it the functions would be the sound ones from then on.
            ([], Some(_)) => self
                .profile
                .kinds()
                .filter(|kind| *kind != Kind::FlushFunctions)
                .collect(),
            ([], None) => self.profile.kinds().collect(),
            (chosen, _) => chosen.to_vec(),
        };
        plan(self.seed, self.duration(), &kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str) -> Result<(), String> {
        Args::try_parse_from(["chaos"].into_iter().chain(args.split(' ')))
            .unwrap()
            .check()
    }

    #[test]
    fn a_fault_that_the_profile_does_not_have_is_refused_with_those_that_it_has() {
        let wrong = check("--profile sentinel --faults kill-master,move-slot").unwrap_err();
        assert!(wrong.contains("no move-slot") && wrong.contains("fail-over"), "{wrong}");
        assert!(check("--faults kill-master").is_err() && check("--profile cluster --faults stall").is_err());
        assert!(check("--profile cluster --mutant no-fence").is_err() && check("--mutant unconfirmed").is_err());
        assert!(check("--profile cluster --faults kill-master,move-slot").is_ok());
    }
}
