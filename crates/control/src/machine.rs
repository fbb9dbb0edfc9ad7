//! What is agreed on, seen from the group that agrees: commands in, answers out.

/// A state that every node of the group has, made by the same commands in the same order.
///
/// Whatever happens to it must follow from its state and the command alone: no clock, no randomness, no
/// order of a hash table, nothing of the node it runs on. A command that is refused is refused on all
/// nodes, by its answer; there is no error besides.
///
/// # Formats
///
/// Commands and snapshots are bytes of a numbered format. Nodes are replaced one by one, so a newer format is
/// [read](Self::FORMAT_READ) by a program that still [writes](Self::FORMAT_WRITTEN) the older one. What
/// [needs](Self::format_of) the newer one is only written once all members have said that they read it
/// ([`Handle::all_read`](crate::Handle::all_read)); from then on a node that does not is refused before it has any
/// of it. Or it takes two releases, of which the second writes the newer format always.
pub trait Machine: Send + 'static {
    /// The newest format of commands and snapshots that is understood. All older ones are, too.
    const FORMAT_READ: u32;

    /// The format of what is written, where nothing needs a newer one. Never above
    /// [`FORMAT_READ`](Self::FORMAT_READ).
    const FORMAT_WRITTEN: u32;

    /// The format by which a command can be read.
    fn format_of(_command: &[u8]) -> u32 {
        Self::FORMAT_WRITTEN
    }

    /// The format by which its snapshot can be read.
    fn format(&self) -> u32 {
        Self::FORMAT_WRITTEN
    }

    /// Takes the next command and answers it. Never fails: a command that is refused, malformed or of an
    /// unknown kind is answered so, and changes nothing.
    fn apply(&mut self, command: &[u8]) -> Vec<u8>;

    /// All there is, so that [`restore`](Self::restore) makes an equal machine of it. Equal machines
    /// have equal snapshots, byte for byte: nodes compare digests of them.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes what the snapshot was taken of, whatever was there before. Changes nothing if it fails.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;
}

/// Why a snapshot was not taken in. It was written by this very program or an older one, and its bytes
/// are those that were written: the machine does not understand its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be understood: {0}")]
pub struct RestoreError(pub String);

#[cfg(test)]
pub(crate) mod testing {
    //! The smallest machine there is.

    use super::*;

    /// Adds up the bytes of all commands, and answers the sum.
    #[derive(Debug, Default, Clone, PartialEq, Eq)]
    pub(crate) struct Sum(u64);

    impl Sum {
        pub(crate) const READ: u32 = <Self as Machine>::FORMAT_READ;

        pub(crate) fn total(&self) -> u64 {
            self.0
        }
    }

    impl Machine for Sum {
        const FORMAT_READ: u32 = 1;
        const FORMAT_WRITTEN: u32 = 1;

        fn apply(&mut self, command: &[u8]) -> Vec<u8> {
            self.0 += command.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            self.0.to_be_bytes().to_vec()
        }

        fn snapshot(&self) -> Vec<u8> {
            self.0.to_be_bytes().to_vec()
        }

        fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
            let sum = snapshot.try_into().map_err(|_| RestoreError("it is no sum".to_owned()))?;
            self.0 = u64::from_be_bytes(sum);
            Ok(())
        }
    }
}
