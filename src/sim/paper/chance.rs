//! Random numbers that are the same for the same seed and words, whatever else happens meanwhile.

use sha2::{Digest, Sha256};

/// Returns a random number from 0 up to, and without, 1.
pub(super) fn unit(seed: u64, words: &[&str]) -> f64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let number = digest.iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn it_is_even_and_repeatable() {
        let drawn: Vec<f64> = (0..1000).map(|n| unit(7, &["i-1", &n.to_string()])).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        let low = drawn.iter().filter(|x| **x < 0.3).count();
        assert!((250..350).contains(&low), "{low}");
        assert_eq!(unit(7, &["i-1", "0"]), drawn[0]);
        assert_ne!(unit(8, &["i-1", "0"]), drawn[0]);
    }
}
