//! Numbers of instances, and the sizes of batches, with their arithmetic.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{fmt, str::FromStr};

/// A number of instances: a count, or a share of the fleet in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A number of instances.
    Count(u32),
    /// A share in percent, 0–100.
    Percent(u32),
}

impl Size {
    /// Returns how many of `total` that is: a percentage rounds down. May be 0.
    pub fn of(self, total: u32) -> u32 {
        match self {
            Size::Count(count) => count,
            Size::Percent(percent) => {
                u32::try_from(u64::from(total) * u64::from(percent) / 100).unwrap_or(total)
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Count(count) => write!(f, "{count}"),
            Size::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no number of instances: write a count such as \"3\" or a share such as \"25%\""
            )
        };
        match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: u32 = percent.trim().parse().map_err(|_| wrong())?;
                if percent > 100 {
                    return Err(format!(
                        "'{text}' is more than the whole fleet: a share is between 0% and 100%"
                    ));
                }
                Ok(Size::Percent(percent))
            }
            None => text.trim().parse().map(Size::Count).map_err(|_| wrong()),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a count such as \"3\" or a share such as \"25%\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Size, E> {
                u32::try_from(count)
                    .map(Size::Count)
                    .map_err(|_| E::custom("that is more instances than there can be"))
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Size, E> {
                u32::try_from(count)
                    .map(Size::Count)
                    .map_err(|_| E::custom("a number of instances can't be negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The sizes of the batches: one for all, or steps of which the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Batches(Vec<Size>);

impl Batches {
    /// Makes batches of one size.
    pub fn of(size: Size) -> Self {
        Batches(vec![size])
    }

    /// Returns the step that is the largest in a fleet of `total`.
    pub fn largest_step(&self, total: u32) -> Size {
        self.0.iter().copied().max_by_key(|size| size.of(total)).unwrap_or(Size::Count(1))
    }

    /// Makes batches of these steps; refused if there is none or one of them is zero.
    pub fn new(steps: Vec<Size>) -> Result<Self, String> {
        if steps.is_empty() {
            return Err(
                "batch has no step: write a size such as \"20%\", or steps such as [\"1\", \"10%\", \"50%\"]"
                    .into(),
            );
        }
        if let Some(zero) = steps.iter().find(|size| matches!(size, Size::Count(0) | Size::Percent(0))) {
            return Err(format!(
                "a batch of '{zero}' would never deploy anything: write at least \"1\" or \"1%\""
            ));
        }
        Ok(Batches(steps))
    }

    /// Returns the size of batch `number` (from 1) in a fleet of `total`: never below 1.
    pub fn size(&self, number: u32, total: u32) -> u32 {
        let index = (number.max(1) as usize - 1).min(self.0.len() - 1);
        self.0[index].of(total).max(1)
    }

    /// Returns how many instances the batches up to `number` take together.
    pub fn up_to(&self, number: u32, total: u32) -> u32 {
        (1..=number).map(|number| self.size(number, total)).fold(0, u32::saturating_add)
    }

    /// Returns the size of the largest batch in a fleet of `total`.
    pub fn largest(&self, total: u32) -> u32 {
        self.0.iter().map(|size| size.of(total).max(1)).max().unwrap_or(1).min(total.max(1))
    }

    /// Whether batch `number` is a step of its own, with others after it; the last step repeats.
    pub fn is_a_step_before_others(&self, number: u32) -> bool {
        number > 0 && (number as usize) < self.0.len()
    }

    /// Whether there are several steps, so that the first is a canary.
    pub fn has_canary(&self) -> bool {
        self.0.len() > 1
    }

    /// Counts the batches that a fleet of `total` takes.
    pub fn count(&self, total: u32) -> u32 {
        let (mut left, mut number) = (total, 0);
        while left > 0 {
            number += 1;
            left = left.saturating_sub(self.size(number, total));
        }
        number
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Size::to_string).collect::<Vec<_>>().join(", "))
    }
}

impl<'de> Deserialize<'de> for Batches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<Size>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size such as \"20%\" or \"3\", or steps such as [\"1\", \"10%\", \"50%\"]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Size>, E> {
                // The command line writes steps as one word: 1,10%,50%
                text.split(',').map(|step| step.parse().map_err(E::custom)).collect()
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Size>, A::Error> {
                let mut steps = Vec::new();
                while let Some(step) = seq.next_element()? {
                    steps.push(step);
                }
                Ok(steps)
            }
        }
        Batches::new(deserializer.deserialize_any(Visitor)?).map_err(D::Error::custom)
    }
}
