// SPDX-License-Identifier: Apache-2.0
//! Stands below functions of a module, of a trait, and one that is inlined.
mod deep {
    use std::io::Write;

    #[inline(never)]
    pub fn stay(n: u64) -> u64 {
        println!("ready");
        std::io::stdout().flush().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(n)); // stay
        n
    }
    #[inline(always)]
    fn mid(n: u64) -> u64 {
        stay(n + 1000) + 1 // mid
    }
    pub trait Goes {
        fn go(&self) -> u64;
    }
    pub struct Some(pub u64);
    impl Goes for Some {
        #[inline(never)]
        fn go(&self) -> u64 {
            mid(self.0) + 2 // go
        }
    }
}
use deep::Goes;

fn main() {
    let s: Box<dyn Goes> = Box::new(deep::Some(5));
    println!("{}", s.go()); // main
}
