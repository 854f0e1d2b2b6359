// Icons, drawn as lines in the colour of their text. Words stand beside them.
const PATHS = {
  overview: "M3 17V9m4.7 8V3m4.6 14V7M17 17v-5",
  tasks: "M7 5h10M7 10h10M7 15h10M3 5h.01M3 10h.01M3 15h.01",
  workers: "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.01M6 13.5h.01",
  jobs: "M3 4h14v12H3zM6 8l2.5 2L6 12m4.5.5H14",
  programs: "M10 4v4m0 0L5 12m5-4 5 4M8 2.5h4V5H8zM3 12h4v4H3zm10 0h4v4h-4z",
  functions: "M12.5 3.5c-2-.6-3 .4-3.3 2.5L7.8 15c-.3 1.8-1.3 2.3-3 1.7M6 8h6",
  pools: "M3 6c0-1.4 3-2.5 7-2.5S17 4.6 17 6s-3 2.5-7 2.5S3 7.4 3 6zm0 0v4c0 1.4 3 2.5 7 2.5s7-1.1 7-2.5V6M3 10v4c0 1.4 3 2.5 7 2.5s7-1.1 7-2.5v-4",
  events: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zm0 3.5V10l2.5 2",
  plan: "M3 6h3c4 0 4 8 8 8h3m0 0-2.5-2.5M17 14l-2.5 2.5M3 14h3c1.5 0 2.5-1 3.2-2.3M17 6h-3c-1.3 0-2.2.8-2.9 1.8M17 6l-2.5-2.5M17 6l-2.5 2.5",
  search: "M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM13 13l4 4",
  light: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  dark: "M16.5 11.5A7 7 0 0 1 8.5 3.5a7 7 0 1 0 8 8z",
  auto: "M10 3a7 7 0 1 0 0 14zm0 0a7 7 0 0 1 0 14",
  close: "M5 5l10 10M15 5 5 15",
  wide: "M11 3h6v6M9 17H3v-6M17 3l-6 6M3 17l6-6",
  narrow: "M17 9h-6V3M3 11h6v6M11 9l6-6M9 11l-6 6",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  next: "M8 4l6 6-6 6",
  back: "M12 4l-6 6 6 6",
  leave: "M11 4H4v12h7M9 10h8m0 0-3-3m3 3-3 3",
  key: "M12.5 3a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM9.3 10.7 3 17m2.5-2.5L8 17",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
