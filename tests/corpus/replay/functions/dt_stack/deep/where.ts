export const where = (): unknown => [import.meta.url, new Error("deep").stack];
