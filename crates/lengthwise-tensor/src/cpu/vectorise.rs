//! Loops compiled for every vector extension, the widest of the machine chosen at run time.

use crate::VectorWidth;

/// The vectors an operation computes with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vectors {
    /// The widest of the machine.
    Machine(pulp::Arch),
    /// Those of AVX-512, emulated: tests cover them on any machine.
    #[cfg(test)]
    Emulated512,
    /// One element at a time.
    #[cfg(test)]
    Scalar,
}

impl Vectors {
    pub(super) fn of_machine() -> Self {
        Self::Machine(pulp::Arch::new())
    }

    /// Vectors of this width, none where the machine lacks them.
    pub(super) fn of_width(width: VectorWidth) -> Option<Self> {
        let arch = match width {
            VectorWidth::Scalar => Some(pulp::Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            VectorWidth::Avx2 => pulp::x86::V3::try_new().map(pulp::Arch::V3),
            #[cfg(target_arch = "x86_64")]
            VectorWidth::Avx512 => pulp::x86::V4::try_new().map(pulp::Arch::V4),
            #[cfg(not(target_arch = "x86_64"))]
            VectorWidth::Avx2 | VectorWidth::Avx512 => None,
        };
        arch.map(Self::Machine)
    }

    #[inline(always)]
    pub(super) fn run<Operation: pulp::WithSimd>(self, operation: Operation) -> Operation::Output {
        match self {
            Self::Machine(arch) => arch.dispatch(operation),
            #[cfg(test)]
            Self::Emulated512 => pulp::Simd::vectorize(pulp::Scalar512b, operation),
            #[cfg(test)]
            Self::Scalar => pulp::Simd::vectorize(pulp::Scalar, operation),
        }
    }
}

/// Defines a function whose body is compiled for each instruction set `pulp` knows (AVX2 + FMA and AVX-512 on
/// x86-64, NEON on aarch64) and that takes as first argument the [`Vectors`] to run on.
///
/// Plain loops in the body are vectorised by the compiler; `$simd` gives explicit vectors. What the body calls
/// must be `#[inline(always)]`, otherwise it is compiled for the baseline instruction set.
macro_rules! vectorised {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$lifetime:lifetime>(
            $simd:ident: $simd_type:ident $(, $argument:ident: $type:ty)* $(,)?
        ) $(-> $output:ty)? $body:block
    ) => {
        $(#[$attribute])*
        #[allow(
            clippy::too_many_arguments,
            clippy::needless_lifetimes,
            clippy::extra_unused_lifetimes,
            reason = "the arguments become the fields of one operation, with one lifetime"
        )]
        $visibility fn $name<$lifetime>(vectors: $crate::cpu::vectorise::Vectors, $($argument: $type),*) $(-> $output)? {
            struct Operation<$lifetime> {
                $($argument: $type,)*
                lifetime: std::marker::PhantomData<&$lifetime ()>,
            }
            impl<$lifetime> pulp::WithSimd for Operation<$lifetime> {
                type Output = vectorised!(@output $($output)?);

                #[inline(always)]
                fn with_simd<$simd_type: pulp::Simd>(self, $simd: $simd_type) -> Self::Output {
                    let Self { $($argument,)* lifetime: _ } = self;
                    $body
                }
            }
            vectors.run(Operation { $($argument,)* lifetime: std::marker::PhantomData })
        }
    };
    (@output) => { () };
    (@output $output:ty) => { $output };
}

pub(super) use vectorised;
